"""The commands of `arena-judge finetune`, one thin file each."""
