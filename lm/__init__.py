"""Text: language models, labels for words and classes for documents, a folder for each; and tools to export and explore
trained models.
"""
