"""What can go wrong when a model is opened; each message is one line that says what to do."""


class ModelError(Exception):
    """The model cannot be opened as asked: unknown name, no weights, unreadable file, no network."""


class IntegrityError(ModelError):
    """The bytes are not those that were promised: a digest does not match, or numbers are not what they were."""
