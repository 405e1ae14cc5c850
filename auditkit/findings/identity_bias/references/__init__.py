"""What the bias claims must see a model react to before "no difference" says anything of it."""
