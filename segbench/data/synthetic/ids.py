"""The raw Cityscapes ids that occur in drawn streets: the label table's, by short names."""

from segbench.core.labels import DEFAULT

_ID = {row.name: row.label.id for row in DEFAULT.rows}

EGO, OUT_OF_ROI = _ID["ego vehicle"], _ID["out of roi"]
STATIC, DYNAMIC = _ID["static"], _ID["dynamic"]
ROAD, SIDEWALK, PARKING = _ID["road"], _ID["sidewalk"], _ID["parking"]
BUILDING, WALL, FENCE, BRIDGE = _ID["building"], _ID["wall"], _ID["fence"], _ID["bridge"]
POLE, TRAFFIC_LIGHT, SIGN = _ID["pole"], _ID["traffic light"], _ID["traffic sign"]
VEGETATION, TERRAIN, SKY = _ID["vegetation"], _ID["terrain"], _ID["sky"]
PERSON, RIDER = _ID["person"], _ID["rider"]
CAR, TRUCK, BUS, CARAVAN = _ID["car"], _ID["truck"], _ID["bus"], _ID["caravan"]
MOTORCYCLE, BICYCLE = _ID["motorcycle"], _ID["bicycle"]
COUNTED = frozenset((PERSON, RIDER, CAR, TRUCK, BUS, CARAVAN, MOTORCYCLE, BICYCLE))  # those that have instances
