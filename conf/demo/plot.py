"""A line plot as PNG with python3's standard library alone: a few lines, their names, axes with numbers."""
import struct
import zlib

# 5 x 7 dots: each letter is seven rows of five bits.
FONT = {
    " ": "00000000000000", "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e",
    "4": "02060a121f0202", "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808", "8": "0e11110e11110e",
    "9": "0e11110f01020c", ".": "00000000000c0c", ",": "000000000c0408", "-": "0000001f000000", ":": "000c0c000c0c00",
    "%": "18190204081303", "(": "02040808080402", ")": "08040202020408", "/": "00010204081000",
    "a": "00000e010f110f", "b": "10101619111e00", "c": "00000e1010110e", "d": "01010d1311110f", "e": "00000e111f100e",
    "f": "0609081c080808", "g": "000f11110f010e", "h": "10101619111111", "i": "04000c0404040e", "j": "0200060202120c",
    "k": "08080a0c0c0a09", "l": "0c04040404040e", "m": "00001a15151111", "n": "00001619111111", "o": "00000e1111110e",
    "p": "00001e111e1010", "q": "00000f110f0101", "r": "00001619101010", "s": "00000e100e011e", "t": "08081c08080906",
    "u": "0000111111130d", "v": "00001111110a04", "w": "0000111115150a", "x": "0000110a040a11", "y": "000011110f010e",
    "z": "00001f0204081f", "D": "1c12111111121c", "H": "1111111f111111", "M": "111b1515111111", "N": "11111915131111",
    "P": "1e11111e101010", "R": "1e11111e141211", "S": "0f10100e01011e",
}
FONT = {letter: [int(rows[i:i + 2], 16) for i in range(0, 14, 2)] for letter, rows in FONT.items()}
COLOURS = [(31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207)]
BLACK, GREY, WHITE = (0, 0, 0), (216, 216, 216), (255, 255, 255)


class Picture:
    def __init__(self, width, height):
        self.width, self.height = width, height
        self.dots = bytearray(bytes(WHITE) * (width * height))

    def dot(self, x, y, colour, size=1):
        for v in range(int(y), int(y) + size):
            for u in range(int(x), int(x) + size):
                if 0 <= u < self.width and 0 <= v < self.height:
                    at = (v * self.width + u) * 3
                    self.dots[at:at + 3] = bytes(colour)

    def line(self, x0, y0, x1, y1, colour, size=1):
        steps = int(max(abs(x1 - x0), abs(y1 - y0), 1))
        for i in range(steps + 1):
            self.dot(round(x0 + (x1 - x0) * i / steps), round(y0 + (y1 - y0) * i / steps), colour, size)

    def text(self, x, y, words, colour=BLACK, size=2):
        for number, letter in enumerate(words):
            for row, bits in enumerate(FONT.get(letter, FONT.get(letter.lower(), FONT["-"]))):
                for column in range(5):
                    if bits >> (4 - column) & 1:
                        self.dot(x + (number * 6 + column) * size, y + row * size, colour, size)

    def png(self):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        rows = b"".join(b"\0" + bytes(self.dots[y * self.width * 3:(y + 1) * self.width * 3])
                        for y in range(self.height))
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9))
                + chunk(b"IEND", b""))


def ticks_of(top):
    """Four or five round numbers from 0 to at least top."""
    step = 1e-6
    while step * 5 < top:
        for factor in (2, 2.5, 2):
            step *= factor
            if step * 5 >= top:
                break
    return [step * i for i in range(6)]


def panel(picture, left, top, width, height, title, lines, x_names):
    """@param lines  (name, values; None where there is none)"""
    known = [v for _, values in lines for v in values if v is not None]
    ticks = ticks_of(max(known + [1e-6]))
    highest = ticks[-1]
    picture.text(left, top, title)
    x0, y0, x1, y1 = left + 60, top + 34, left + width - 10, top + height - 40 - 20 * len(lines)

    def place(index, value):
        return x0 + 20 + (x1 - x0 - 40) * index / max(1, len(x_names) - 1), y1 - (y1 - y0) * value / highest
    for tick in ticks:
        y = place(0, tick)[1]
        picture.line(x0, y, x1, y, GREY)
        picture.text(left, y - 6, f"{tick:.4g}"[:5].rjust(4))
    picture.line(x0, y0, x0, y1, BLACK)
    picture.line(x0, y1, x1, y1, BLACK)
    for index, name in enumerate(x_names):
        x = place(index, 0)[0]
        picture.text(max(x0, min(x - 6 * len(name), x1 - 12 * len(name))), y1 + 8, name)
    for number, (name, values) in enumerate(lines):
        colour, before = COLOURS[number % len(COLOURS)], None
        for index, value in enumerate(values):
            if value is None:
                before = None
                continue
            here = place(index, value)
            picture.dot(here[0] - 4, here[1] - 4, colour, 9)
            if before:
                picture.line(before[0] - 1, before[1] - 1, here[0] - 1, here[1] - 1, colour, 3)
            before = here
        y = top + height - 20 * (len(lines) - number)
        picture.line(x0, y + 6, x0 + 30, y + 6, colour, 3)
        picture.text(x0 + 40, y, name)


def write(file, panels, x_names):
    """@param panels  (title, lines); side by side"""
    picture = Picture(480 * len(panels), 400)
    for number, (title, lines) in enumerate(panels):
        panel(picture, 480 * number + 20, 16, 450, 370, title, lines, x_names)
    with open(file, "wb") as out:
        out.write(picture.png())
