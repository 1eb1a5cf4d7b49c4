"""Translation with attention: cells in a loop, teacher forcing, bmm, topk, NLL loss, two optimizers."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim

random.seed(0)
torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SOS_token, EOS_token, MAX_LENGTH = 0, 1, 6


class EncoderRNN(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.embedding = nn.Embedding(input_size, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size)

    def forward(self, input, hidden):
        embedded = self.embedding(input).view(1, 1, -1)
        output, hidden = self.gru(embedded, hidden)
        return output, hidden

    def initHidden(self):
        return torch.zeros(1, 1, self.hidden_size, device=device)


class AttnDecoderRNN(nn.Module):
    def __init__(self, hidden_size, output_size, dropout_p=0.05):
        super().__init__()
        self.embedding = nn.Embedding(output_size, hidden_size)
        self.attn = nn.Linear(hidden_size * 2, MAX_LENGTH)
        self.attn_combine = nn.Linear(hidden_size * 2, hidden_size)
        self.dropout = nn.Dropout(dropout_p)
        self.cell = nn.GRUCell(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, output_size)

    def forward(self, input, hidden, encoder_outputs):
        embedded = self.dropout(self.embedding(input).view(1, 1, -1))
        attn_weights = F.softmax(self.attn(torch.cat((embedded[0], hidden[0]), 1)), dim=1)
        attn_applied = torch.bmm(attn_weights.unsqueeze(0), encoder_outputs.unsqueeze(0))
        output = torch.cat((embedded[0], attn_applied[0]), 1)
        output = F.relu(self.attn_combine(output))
        hidden = self.cell(output, hidden[0]).unsqueeze(0)
        return F.log_softmax(self.out(hidden[0]), dim=1), hidden, attn_weights


def train(source, target, encoder, decoder, encoder_optimizer, decoder_optimizer, criterion):
    encoder_hidden = encoder.initHidden()
    encoder_optimizer.zero_grad()
    decoder_optimizer.zero_grad()
    encoder_outputs = torch.zeros(MAX_LENGTH, encoder.hidden_size, device=device)
    loss = 0
    for ei in range(source.size(0)):
        encoder_output, encoder_hidden = encoder(source[ei], encoder_hidden)
        encoder_outputs[ei] = encoder_output[0, 0]
    decoder_input = torch.tensor([[SOS_token]], device=device)
    decoder_hidden = encoder_hidden
    teacher_forcing = random.random() < 0.7
    for di in range(target.size(0)):
        decoder_output, decoder_hidden, attention = decoder(decoder_input, decoder_hidden, encoder_outputs)
        loss += criterion(decoder_output, target[di])
        if teacher_forcing:
            decoder_input = target[di]
        else:
            topv, topi = decoder_output.topk(1)
            decoder_input = topi.squeeze().detach()
            if decoder_input.item() == EOS_token:
                break
    loss.backward()
    encoder_optimizer.step()
    decoder_optimizer.step()
    return loss.item() / target.size(0)


encoder, decoder = EncoderRNN(8, 16).to(device), AttnDecoderRNN(16, 8).to(device)
encoder_optimizer = optim.SGD(encoder.parameters(), lr=0.01, momentum=0.9, nesterov=True)
decoder_optimizer = optim.SGD(decoder.parameters(), lr=0.01, momentum=0.9)
criterion = nn.NLLLoss()
losses = []
for iteration in range(150):
    words = [random.randrange(2, 8) for _ in range(3)]
    source = torch.tensor(words + [EOS_token], dtype=torch.long, device=device).view(-1, 1)
    target = torch.tensor(words[::-1] + [EOS_token], dtype=torch.long, device=device).view(-1, 1)
    losses.append(train(source, target, encoder, decoder, encoder_optimizer, decoder_optimizer, criterion))
print(sum(losses[:30]) / 30, sum(losses[-30:]) / 30)
assert sum(losses[-30:]) < 0.9 * sum(losses[:30])
