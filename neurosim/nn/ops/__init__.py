"""Operations behind the layers; each has a plain reference beside its fast forms."""
