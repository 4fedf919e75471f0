"""``python -m papernets_lite.training CHAPTER.ipynb`` runs a chapter as a script."""

from papernets_lite.training.script import main

if __name__ == "__main__":
    main()
