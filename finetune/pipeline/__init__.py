"""Steps of `arena-judge` as one graph that goes on where it stopped."""
