"""What a user sets: hyperparameters and options as declared fields, and the numbers of a step that follow from them."""
