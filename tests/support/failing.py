"""Calendars that do something else than the one they wrap, and attempts that end at any step."""

from calsync.core.errors import Unreachable


class Wrapper:
    """A calendar that is another one, except for what its subclass does."""

    def __init__(self, calendar):
        self.calendar = calendar

    def __getattr__(self, name):
        return getattr(self.calendar, name)


class Flaky(Wrapper):
    """A calendar that can be sent away."""

    away = False

    def __getattr__(self, name):
        if self.away and name != "close":
            raise Unreachable("The calendar does not answer.", retry_after=7)
        return getattr(self.calendar, name)


class Absent(Wrapper):
    """A calendar that goes away at a write, before or after it is done, and stays away until it `is_back`."""

    def __init__(self, calendar, writes, *, done=False):
        super().__init__(calendar)
        self.left, self.done, self.is_back = writes, done, False

    def __getattr__(self, name):
        if name == "changes" and self.left < 0 and not self.is_back:
            raise Unreachable("The calendar does not answer.")
        return getattr(self.calendar, name)

    def put(self, *arguments, **options):
        self.left -= 1
        if self.left < 0 and not self.is_back:
            if self.done and self.left == -1:
                self.calendar.put(*arguments, **options)
            raise Unreachable("The calendar does not answer.")
        return self.calendar.put(*arguments, **options)


class Late(Wrapper):
    """A calendar on which the n-th write times out and is done as it is read for the second time after that."""

    def __init__(self, calendar, n):
        super().__init__(calendar)
        self.left, self.late, self.reads = n, None, 0

    def put(self, *arguments, **options):
        self.left -= 1
        if self.left == 0:
            self.late = (arguments, options)
            raise Unreachable("The calendar does not answer.")
        return self.calendar.put(*arguments, **options)

    def changes(self, *arguments):
        self.reads += self.late is not None
        if self.late is not None and self.reads == 2:
            (what, options), self.late = self.late, None
            self.calendar.put(*what, **options)
        return self.calendar.changes(*arguments)


class Refusing(Wrapper):
    """A calendar that writes nothing more to one week."""

    def __init__(self, calendar, href, error):
        super().__init__(calendar)
        self.href, self.error, self.tries = href, error, 0

    def put(self, href, *arguments, **options):
        if href == self.href:
            self.tries += 1
            raise self.error
        return self.calendar.put(href, *arguments, **options)


class Meddled(Wrapper):
    """A calendar on which `meddle` happens just after (or before) our first write."""

    def __init__(self, calendar, meddle, *, before=False):
        super().__init__(calendar)
        self.meddle, self.before = meddle, before

    def put(self, *arguments, **options):
        meddle, self.meddle = self.meddle, None
        if meddle and self.before:
            meddle()
        stored = self.calendar.put(*arguments, **options)
        if meddle and not self.before:
            meddle()
        return stored


class Ended(BaseException):
    """The attempt ends here, as on a signal; no handler of calsync's sees it. Processes are killed in other tests."""


class Fuse:
    """Lets the attempt end before or after the n-th call to any of its ports."""

    def __init__(self, at):
        self.left = at

    def step(self):
        self.left -= 1
        if self.left == 0:
            raise Ended

    def around(self, port, *methods):
        fuse = self

        class Wrapped:
            def __getattr__(self, name):
                call = getattr(port, name)
                if name not in methods:
                    return call

                def stepped(*arguments, **options):
                    fuse.step()
                    answer = call(*arguments, **options)
                    fuse.step()
                    return answer

                return stepped

        return Wrapped()
