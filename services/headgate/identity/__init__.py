"""Who may do what: tokens, the keys that sign them, and the identities under which models act.

Owns: signing keys, what is known of long-lived tokens, managed identities and their roles.
Hears: its commands and queries, and instances that ask for a token of their identity.
Says: token and identity events; the trust bucket, with which gateways and routers check tokens
by themselves.
"""
