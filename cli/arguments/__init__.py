"""What commands take: options, references to conversations, attachments."""
