"""What training and distillation cost and reach."""
