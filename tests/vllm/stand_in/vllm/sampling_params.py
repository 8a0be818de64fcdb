class StructuredOutputsParams:
    def __init__(self, **constraint):
        self.__dict__.update(constraint)
