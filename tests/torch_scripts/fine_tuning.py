"""Transfer learning: layers frozen and replaced, groups with their own rates, samplers, metrics with NumPy."""

import time

import numpy as np
import torch
import torch.backends.cudnn as cudnn
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Subset, TensorDataset, WeightedRandomSampler

cudnn.benchmark = True
np.random.seed(0)
torch.manual_seed(0)
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def conv3x3(in_planes, out_planes, stride=1):
    return nn.Conv2d(in_planes, out_planes, kernel_size=3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(conv3x3(3, 8), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.layer1 = BasicBlock(8, 8)
        down = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
        self.layer2 = BasicBlock(8, 16, 2, down)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


labels = torch.tensor(np.random.choice(3, 90, p=[0.6, 0.3, 0.1]))
images = torch.from_numpy(np.random.rand(90, 3, 8, 8).astype(np.float32))
images[torch.arange(90), labels] += 1.0
dataset = TensorDataset(images, labels)
counts = torch.bincount(labels[:72], minlength=3)
weights = (1.0 / counts.float())[labels[:72]]
dataloaders = {
    "train": DataLoader(Subset(dataset, range(72)), batch_size=18, sampler=WeightedRandomSampler(weights, 72), num_workers=0),
    "val": DataLoader(Subset(dataset, range(72, 90)), batch_size=18),
}

model = Net(10)
for param in model.parameters():
    param.requires_grad = False
num_ftrs = model.fc.in_features
model.fc = nn.Linear(num_ftrs, 3)
model.layer2.requires_grad_(True)
model = model.to(device)
criterion = nn.CrossEntropyLoss(weight=torch.ones(3))
optimizer = optim.SGD([{"params": model.fc.parameters(), "lr": 0.1}, {"params": model.layer2.parameters()}],
                      lr=0.02, momentum=0.9, weight_decay=1e-4)
scheduler = lr_scheduler.SequentialLR(optimizer, [lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2),
                                                  lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)], milestones=[2])
frozen = model.layer1.conv1.weight.clone()

since = time.time()
for epoch in range(6):
    for phase in ["train", "val"]:
        model.train() if phase == "train" else model.eval()
        running_loss, running_corrects = 0.0, 0
        for inputs, targets in dataloaders[phase]:
            inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                outputs = model(inputs)
                _, preds = torch.max(outputs, 1)
                loss = criterion(outputs, targets)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
            running_loss += loss.item() * inputs.size(0)
            running_corrects += torch.sum(preds == targets.data)
        if phase == "train":
            scheduler.step()
        epoch_acc = running_corrects.double() / len(dataloaders[phase].dataset)
        print(f"{phase} Loss: {running_loss / len(dataloaders[phase].dataset):.4f} Acc: {epoch_acc:.4f}")
print(f"{(time.time() - since) // 60:.0f}m, rates {[group['lr'] for group in optimizer.param_groups]}")
assert epoch_acc > 0.8
assert torch.equal(frozen, model.layer1.conv1.weight)
assert model.stem[0].weight.grad is None

confusion = torch.zeros(3, 3, dtype=torch.int64)
for t, p in zip(targets.view(-1), preds.view(-1)):
    confusion[t.long(), p.long()] += 1
assert confusion.sum() == 18
per_class = confusion.diag() / confusion.sum(1).clamp(min=1)
print(per_class, np.asarray(per_class).round(2), preds.cpu().numpy().tolist())
total = sum(p.numel() for p in model.parameters())
assert total > sum(p.numel() for p in model.parameters() if p.requires_grad)
state = {k: v for k, v in model.state_dict().items() if "fc" not in k}
missing, unexpected = Net(5).load_state_dict(state, strict=False)
assert missing == ["fc.weight", "fc.bias"]
assert unexpected == []
