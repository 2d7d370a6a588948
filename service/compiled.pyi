from service.messages import Float32
from service.spread import Part

def spread(planes: list[Float32], weight: Float32, fractions: Float32, parts: list[Part]) -> None: ...
