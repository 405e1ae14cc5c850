"""What one model answers when users say what they think, and along which directions it does so."""
