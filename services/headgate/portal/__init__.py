"""The studio: the web page where people see and steer everything, at the gateway's address.

Owns: sign-ins, in memory alone; a restart ends them.
Hears: the gateway's REST API and event stream, with the token of whoever is signed in.
Says: what people decide, as REST calls with their token. It has no rights of its own.

It is a web server on a UNIX socket of the data folder; the gateway passes ``/studio`` on to it.
Everything is served from here: a browser that shows the studio asks no other address.
"""
