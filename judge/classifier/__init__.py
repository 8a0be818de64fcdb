"""Fine-tuned classifiers, as far as running one goes; making one is `finetune`'s."""
