"""Prompts of the stand-in."""


def apply_chat_template(processor, config, prompt, *, num_images):
    """Return the prompt as it is."""
    return prompt
