"""What a person reads of a judgement: sentences, pictures, one HTML file."""
