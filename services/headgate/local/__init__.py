"""Local endpoints: a deployment as one process of this machine, for the minutes between edits.

No service, bus or key is involved. What is wanted lies in small files below ``local`` in the data
folder; what runs is read back from the processes themselves, which carry their names.
"""
