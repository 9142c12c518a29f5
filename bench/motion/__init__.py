"""What a viewer sees beside the timing of lips: speed, closures, head, gaze, blinks, brows, repetition; and how
long voices wait and how loud they are."""
