"""What to train: shapes and their arithmetic, the ladder of sizes, hyper-parameters, and the plan."""
