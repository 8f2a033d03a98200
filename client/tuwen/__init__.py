from tuwen._errors import *
