from .play import Play
def test_x():
    Play()
