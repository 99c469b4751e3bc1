"""One attempt over a network: what the client asks for (``port``), who carries it, and the way there (``way``)."""
