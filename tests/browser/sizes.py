"""The windows that pages are tried in."""

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1280, "height": 800}}
BOTH = {"argvalues": [DESK, PHONE], "ids": ["desk", "phone"]}  # for pytest.mark.parametrize
