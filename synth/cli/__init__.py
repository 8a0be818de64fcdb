"""The commands of `arena-judge synth`, one thin file each."""
