"""The models on this machine: installing them from the Hugging Face Hub, showing and removing them."""
