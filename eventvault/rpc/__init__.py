"""Remote calls over Unix sockets: frames, where to listen, and the description of a port's methods.

The store and the dispatcher of jobs each serve their ports with it. It knows neither of them.
"""
