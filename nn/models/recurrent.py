"""Recurrent networks: one that reads a sequence and names its class, and one that writes text letter by letter."""

from __future__ import annotations

import autograd_core as ag
import nn
from nn.utils.rnn import pack_padded_sequence

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


class SequenceClassifier(nn.Module):
    """A recurrent layer that reads a whole sequence, and a linear layer on what it remembers at the end.

    kind: "RNN", "LSTM" or "GRU". ``bidirectional``: a second layer reads from the end to the beginning; the memories of
    both are joined.
    """

    def __init__(self, inputs: int, hidden: int, classes: int, kind: str = "LSTM", bidirectional: bool = False):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"SequenceClassifier: kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.recurrent = KINDS[kind](inputs, hidden, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(hidden * (2 if bidirectional else 1), classes)

    def forward(self, sequences, lengths=None):
        """Scores (N, classes) of padded sequences (N, T, inputs).

        With ``lengths`` (N,), sequences are packed: each is read to its own end, and padding is neither read nor
        computed. Without, every row is read to the last step.
        """
        if lengths is not None:
            sequences = pack_padded_sequence(sequences, lengths, batch_first=True, enforce_sorted=False)
        _, last = self.recurrent(sequences)
        memory = last[0] if isinstance(last, tuple) else last
        return self.out(memory.transpose(0, 1).flatten(1))


class CharLSTM(nn.Module):
    """A language model of characters: a table of vectors, LSTM layers, and scores of the next character.

    Source: Graves, "Generating sequences with recurrent neural networks", 2013.
    """

    def __init__(self, vocabulary: int, width: int = 64, hidden: int = 256, layers: int = 1, dropout: float = 0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True, dropout=dropout)
        self.out = nn.Linear(hidden, vocabulary)

    def read(self, tokens, state=None):
        """Scores (N, T, vocabulary) of the characters that follow tokens (N, T), and the memory after the last one."""
        hidden, state = self.lstm(self.embedding(tokens), state)
        return self.out(hidden), state

    def forward(self, tokens):
        """Scores (N, T, vocabulary): at each place, of the character that follows it."""
        return self.read(tokens)[0]

    def generate(self, prompt, count: int, temperature: float = 1.0, generator=None):
        """Draw ``count`` characters after ``prompt`` (T,), one by one; returns them (count,).

        temperature: scores are divided by it; below 1 likely characters become likelier still.
        """
        drawn = []
        with ag.no_grad():
            scores, state = self.read(prompt.unsqueeze(0))
            for _ in range(count):
                drawn.append(draw(scores[:, -1] / temperature, generator))
                scores, state = self.read(drawn[-1], state)
        return ag.cat(drawn, 1)[0]


def draw(scores, generator=None):
    """One number for each row of scores (N, vocabulary), by the probabilities that softmax gives: (N, 1)."""
    return ag.multinomial(nn.functional.softmax(scores, -1), 1, generator=generator)


class SequenceLoss(nn.Module):
    """Cross-entropy at every place of a sequence: scores (N, T, classes) against numbers (N, T); a mean, in nats.

    Places that hold ``ignore_index`` do not count.
    """

    def __init__(self, ignore_index: int = -100):
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, scores, targets):
        """The mean over all places."""
        return nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=self.ignore_index)
