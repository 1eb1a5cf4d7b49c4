"""A character model on sequences of different lengths: packing, padding, clipping, sampling."""

import torch
from torch import nn, optim
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

torch.manual_seed(0)
device = "cuda:0" if torch.cuda.is_available() else "cpu"
names = ["anna", "hannah", "banana", "nan", "ana", "havana", "savanna", "an"]
chars = ["<pad>", "<s>", "</s>"] + sorted(set("".join(names)))
stoi = {c: i for i, c in enumerate(chars)}


def collate(batch):
    batch = sorted(batch, key=len, reverse=True)
    ids = [torch.tensor([stoi["<s>"]] + [stoi[c] for c in name] + [stoi["</s>"]]) for name in batch]
    lengths = torch.tensor([len(i) - 1 for i in ids])
    inputs = pad_sequence([i[:-1] for i in ids], batch_first=True, padding_value=0)
    targets = pad_sequence([i[1:] for i in ids], batch_first=True, padding_value=0)
    return inputs, targets, lengths


class CharRNN(nn.Module):
    def __init__(self, vocabulary, hidden=32, layers=2):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 16, padding_idx=0)
        self.rnn = nn.LSTM(16, hidden, num_layers=layers, batch_first=True, dropout=0.1)
        self.fc = nn.Linear(hidden, vocabulary)
        self.hidden, self.layers = hidden, layers
        for name, param in self.rnn.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(param)
            elif "bias" in name:
                nn.init.zeros_(param)

    def init_hidden(self, batch_size):
        weight = next(self.parameters())
        return (weight.new_zeros(self.layers, batch_size, self.hidden), weight.new_zeros(self.layers, batch_size, self.hidden))

    def forward(self, x, lengths=None, hidden=None):
        x = self.embed(x)
        if lengths is not None:
            x = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=True)
        out, hidden = self.rnn(x, hidden)
        if lengths is not None:
            out, out_lengths = pad_packed_sequence(out, batch_first=True)
            assert torch.equal(out_lengths, lengths)
        return self.fc(out), hidden


model = CharRNN(len(chars)).to(device)
criterion = nn.CrossEntropyLoss(ignore_index=0)
optimizer = optim.Adam(model.parameters(), lr=0.01)
loader = DataLoader(names, batch_size=4, shuffle=True, collate_fn=collate, generator=torch.Generator().manual_seed(1))

first = last = None
for epoch in range(25):
    running = 0.0
    for inputs, targets, lengths in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        hidden = model.init_hidden(inputs.size(0))
        logits, hidden = model(inputs, lengths, hidden)
        h, c = (h.detach() for h in hidden)
        loss = criterion(logits.view(-1, logits.size(-1)), targets.reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_grad_norm_(model.parameters(), max_norm=1.0)
        assert torch.isfinite(norm)
        optimizer.step()
        running += loss.item() * inputs.shape[0]
    last = running / len(names)
    first = first or last
    if epoch % 10 == 0:
        print(f"epoch {epoch:2d} loss {last:.3f} perplexity {torch.exp(torch.tensor(last)):.2f}")
assert last < first * 0.6, (first, last)


@torch.no_grad()
def sample(length=10, temperature=0.8):
    model.eval()
    token, hidden, out = torch.tensor([[stoi["<s>"]]], device=device), None, []
    for _ in range(length):
        logits, hidden = model(token, hidden=hidden)
        probs = torch.softmax(logits[0, -1] / temperature, dim=-1)
        token = torch.multinomial(probs, num_samples=1).view(1, 1)
        if token.item() == stoi["</s>"]:
            break
        out.append(chars[token.item()])
    return "".join(out)


print([sample() for _ in range(3)])
assert isinstance(sample(), str)
