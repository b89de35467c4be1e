"""Problems whose answers can be checked: generators, verifiers, and the sandbox that programs run in."""
