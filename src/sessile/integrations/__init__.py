"""What drives an assistant's turns: a user's own function, or a loop over a model.

Each module is imported when an assistant first needs it, so that what it bridges to may be
missing.
"""
