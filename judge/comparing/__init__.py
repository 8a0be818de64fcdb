"""What a comparison of judges is made of: measures, intervals, slices, leaks, words."""
