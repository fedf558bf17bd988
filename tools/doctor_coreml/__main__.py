"""``python -P -m dotsctl.tools.doctor_coreml``."""

from dotsctl.tools.doctor_coreml.main import main

if __name__ == "__main__":
    main()
