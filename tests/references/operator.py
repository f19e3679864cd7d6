class MineOperator:
    def start(self, context):
        if self.value == "bad":
            raise ValueError("the value is bad")
