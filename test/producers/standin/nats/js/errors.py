"""The errors of nats-py's JetStream that the examples name."""

import nats.errors


class Error(nats.errors.Error):
    pass


class APIError(Error):
    """What the server answered instead of an acknowledgement."""

    def __init__(self, code=None, description=None, err_code=None):
        super().__init__(f"nats: code={code} err_code={err_code} description='{description}'")
        self.code, self.description, self.err_code = code, description, err_code


class NoStreamResponseError(Error):
    def __str__(self):
        return "nats: no response from stream"
