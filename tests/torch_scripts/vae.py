"""A variational autoencoder, with a checkpoint of model and optimizer, and training resumed from it."""

import os
import tempfile

import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F

torch.manual_seed(1)
device = torch.device("cpu")


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc21 = nn.Linear(32, 4)
        self.fc22 = nn.Linear(32, 4)
        self.fc3 = nn.Linear(4, 32)
        self.fc4 = nn.Linear(32, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


data = torch.zeros(96, 1, 8, 8)
data[torch.arange(96), 0, torch.arange(96) % 8] = 1.0
loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
model = VAE().to(device)
optimizer = optim.Adam(model.parameters(), lr=1e-2)
scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=2)


def train(epochs):
    model.train()
    history = []
    for epoch in range(epochs):
        train_loss = 0
        for batch_idx, batch in enumerate(loader):
            batch = batch.to(device)
            optimizer.zero_grad()
            recon_batch, mu, logvar = model(batch)
            loss = loss_function(recon_batch, batch, mu, logvar)
            loss.backward()
            train_loss += loss.item()
            optimizer.step()
        scheduler.step(train_loss)
        history.append(train_loss / len(loader.dataset))
    return history


history = train(10)
print("====> Average loss: {:.4f} -> {:.4f}".format(history[0], history[-1]))
assert history[-1] < 0.8 * history[0]

path = os.path.join(tempfile.mkdtemp(), "checkpoint.pth")
torch.save({"epoch": 10, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(), "loss": history[-1]}, path)
rng_state = torch.get_rng_state()
expected = train(2)

checkpoint = torch.load(path, map_location="cpu", weights_only=True)
model = VAE()
optimizer = optim.Adam(model.parameters(), lr=1e-2)
scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=2)
print(model.load_state_dict(checkpoint["model_state_dict"]))
optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
scheduler.load_state_dict(checkpoint["scheduler"])
assert checkpoint["epoch"] == 10
torch.set_rng_state(rng_state)
resumed = train(2)
assert all(abs(a - b) < 1e-4 * abs(a) for a, b in zip(expected, resumed)), (expected, resumed)

with torch.no_grad():
    sample = torch.randn(6, 4).to(device)
    sample = model.decode(sample).cpu()
    images = sample.view(6, 1, 8, 8).clamp(0, 1).mul(255).add_(0.5).to(torch.uint8)
assert images.numpy().dtype == "uint8"
