"""Whether anything is lost or doubled: an account of each topic, made apart from those whose work it checks."""
