"""LeNet-5, the convolutional network of LeCun, Bottou, Bengio and Haffner (1998), in the form that is used today."""

import nn


class LeNet5(nn.Module):
    """Two convolutions and three linear layers for pictures of 1 x 28 x 28; 61,706 parameters.

    As in the paper: 6 and 16 maps of 5x5, then 120, 84 and 10 units. As today: ReLU and largest-value pooling in place
    of scaled tanh and averages, every map connected to every other, softmax in place of radial basis functions.

    batch_norm: normalise each map (each unit) over the batch before its ReLU. dropout: the share of the inputs of the
    last two layers that is silenced at random in training. Both are later inventions, and off by default.

    Source: "Gradient-based learning applied to document recognition", Proc. IEEE 86 (11), 1998.
    """

    def __init__(self, classes: int = 10, *, batch_norm: bool = False, dropout: float = 0.0):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        self.norm1 = nn.BatchNorm2d(6) if batch_norm else nn.Identity()
        self.norm2 = nn.BatchNorm2d(16) if batch_norm else nn.Identity()
        self.norm3 = nn.BatchNorm1d(120) if batch_norm else nn.Identity()
        self.norm4 = nn.BatchNorm1d(84) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x):
        """Scores of the classes (N, classes) for pictures (N, 1, 28, 28)."""
        x = self.pool(self.relu(self.norm1(self.conv1(x))))
        x = self.pool(self.relu(self.norm2(self.conv2(x))))
        x = x.flatten(1)
        x = self.dropout(self.relu(self.norm3(self.fc1(x))))
        x = self.dropout(self.relu(self.norm4(self.fc2(x))))
        return self.fc3(x)
