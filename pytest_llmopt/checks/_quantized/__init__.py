"""What a quantized projection computes, held to its weight format."""
