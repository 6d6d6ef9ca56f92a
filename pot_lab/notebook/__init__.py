"""The researcher's side of `import pot_lab`: connect, order, wait, load the model.

Heavy libraries load when they are used, so importing this stays quick.
"""
