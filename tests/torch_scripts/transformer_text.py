"""A text classifier on a Transformer encoder: masks, positional encoding, warm-up, parameter groups, early stopping."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import TransformerEncoder, TransformerEncoderLayer
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(3)
device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
PAD = 0


class PositionalEncoding(nn.Module):
    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 64):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, max_len, d_model)
        pe[0, :, 0::2] = torch.sin(position * div_term)
        pe[0, :, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pe[:, : x.size(1)]
        return self.dropout(x)


class Classifier(nn.Module):
    def __init__(self, ntoken: int, d_model: int, nhead: int, d_hid: int, nlayers: int, classes: int):
        super().__init__()
        self.pos_encoder = PositionalEncoding(d_model)
        layer = TransformerEncoderLayer(d_model, nhead, d_hid, 0.1, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = TransformerEncoder(layer, nlayers, norm=nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.embedding = nn.Embedding(ntoken, d_model, padding_idx=PAD)
        self.d_model = d_model
        self.linear = nn.Linear(d_model, classes)
        initrange = 0.1
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.linear.bias.data.zero_()
        self.linear.weight.data.uniform_(-initrange, initrange)

    def forward(self, src: Tensor) -> Tensor:
        padding = src == PAD
        hidden = self.pos_encoder(self.embedding(src) * math.sqrt(self.d_model))
        hidden = self.encoder(hidden, src_key_padding_mask=padding)
        hidden = hidden.masked_fill(padding.unsqueeze(-1), 0.0)
        return self.linear(hidden.sum(1) / (~padding).sum(1, keepdim=True))


def sentences(count):
    """Token 5 more often than token 6, or the other way round."""
    tokens = torch.randint(2, 10, (count, 12))
    lengths = torch.randint(6, 13, (count,))
    tokens[torch.arange(12)[None, :] >= lengths[:, None]] = PAD
    return tokens, ((tokens == 5).sum(1) > (tokens == 6).sum(1)).long()


model = Classifier(10, 16, 4, 32, 2, 2).to(device)
print(f"The model has {sum(p.numel() for p in model.parameters() if p.requires_grad):,} trainable parameters")
dataset = TensorDataset(*sentences(192))
train_set, valid_set = random_split(dataset, [0.75, 0.25], generator=torch.Generator().manual_seed(0))
train_loader = DataLoader(train_set, batch_size=24, shuffle=True, drop_last=True)
valid_loader = DataLoader(valid_set, batch_size=64)

decay = [p for n, p in model.named_parameters() if p.ndim >= 2]
no_decay = [p for n, p in model.named_parameters() if p.ndim < 2]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": no_decay, "weight_decay": 0.0}],
                              lr=5e-3, betas=(0.9, 0.98))
epochs, accumulate = 6, 2
warmup = 6
total = epochs * len(train_loader) // accumulate
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min((step + 1) / warmup, max(0.0, (total - step) / (total - warmup))))
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

best_loss, best_state, losses = float("inf"), None, []
for epoch in range(epochs):
    model.train()
    for i, (tokens, labels) in enumerate(train_loader):
        loss = criterion(model(tokens.to(device)), labels.to(device)) / accumulate
        loss.backward()
        if (i + 1) % accumulate == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(tokens.to(device)) for tokens, _ in valid_loader])
        labels = torch.cat([labels for _, labels in valid_loader])
        valid = F.cross_entropy(logits, labels).item()
        accuracy = (logits.argmax(-1) == labels).float().mean()
    losses.append(valid)
    print(f"| epoch {epoch:3d} | lr {scheduler.get_last_lr()[0]:.2e} | valid {valid:5.3f} | accuracy {accuracy:.1%}")
    if valid < best_loss:
        best_loss, best_state = valid, copy.deepcopy(model.state_dict())
model.load_state_dict(best_state)
assert best_loss < losses[0] * 0.98, losses

mask = nn.Transformer.generate_square_subsequent_mask(5)
assert mask.shape == (5, 5)
assert mask[0, 1] == float("-inf")
decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 1).eval()
memory, target = torch.randn(2, 7, 16), torch.randn(2, 5, 16)
with torch.no_grad():
    whole = decoder(target, memory, tgt_mask=mask)
    part = decoder(target[:, :3], memory, tgt_mask=mask[:3, :3])
assert torch.allclose(whole[:, :3], part, atol=1e-5)
