"""Images on disk: decoded with their colours and metadata, written whole or not at all."""
