"""What is asked: identities, items of the project, and those of public sets and of users."""
