"""What `import pot_lab` shows a researcher: connect, order, wait, get the model.

Heavy libraries load when they are used, so importing this stays quick.
"""
