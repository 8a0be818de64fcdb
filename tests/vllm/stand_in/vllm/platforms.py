import torch


class current_platform:
    @staticmethod
    def is_cpu():
        return not torch.cuda.is_available()
