"""Stateless functions, tensor to tensor, that no single paper claims."""
