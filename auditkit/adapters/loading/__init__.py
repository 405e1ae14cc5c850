"""From what a user writes after `--model` to a module and its tokenizer on a device."""
