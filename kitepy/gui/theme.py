"""Colours, palette and style sheet of the app, light and dark, and the object that follows the desktop's choice between them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory

_RESOURCES = Path(__file__).parent / "resources"


@dataclass(frozen=True)
class Tokens:
    """Named colours. Text on its own background keeps a contrast of at least 4.5:1 (WCAG AA)."""

    dark: bool
    window: str
    surface: str
    raised: str
    sidebar: str
    border: str
    strong_border: str
    text: str
    muted: str
    accent: str
    accent_hover: str
    on_accent: str
    accent_soft: str
    success: str
    success_soft: str
    warning: str
    warning_soft: str
    danger: str
    danger_hover: str
    on_danger: str
    danger_soft: str
    hover: str
    pressed: str
    selected: str
    log: str
    match: str
    ansi: tuple[str, ...]
    """The sixteen terminal colours, readable on `log`."""


LIGHT = Tokens(
    dark=False,
    window="#f7f8fb",
    surface="#ffffff",
    raised="#ffffff",
    sidebar="#eef0f5",
    border="#e2e6ee",
    strong_border="#c9d0dc",
    text="#1a2231",
    muted="#5a6678",
    accent="#2f5fe3",
    accent_hover="#2650c7",
    on_accent="#ffffff",
    accent_soft="#e7edff",
    success="#0f7a43",
    success_soft="#dcf3e5",
    warning="#8a5800",
    warning_soft="#fcefd3",
    danger="#c22f2a",
    danger_hover="#a82520",
    on_danger="#ffffff",
    danger_soft="#fde6e4",
    hover="#e6e9f0",
    pressed="#dadfe9",
    selected="#dbe4fd",
    log="#ffffff",
    match="#ffe28a",
    ansi=(
        "#1a2231", "#b3261e", "#0f7a43", "#8a5800", "#2457d6", "#8b3aa8", "#0b7285", "#5a6678",
        "#657184", "#c9302a", "#0e7d42", "#8f5c00", "#3367ec", "#9a41bd", "#0b7688", "#323d4f",
    ),
)  # fmt: skip

DARK = Tokens(
    dark=True,
    window="#15181e",
    surface="#1c2028",
    raised="#242934",
    sidebar="#101318",
    border="#2a303b",
    strong_border="#3d4553",
    text="#e7ebf2",
    muted="#9ba6b7",
    accent="#7d9fff",
    accent_hover="#96b2ff",
    on_accent="#0c1430",
    accent_soft="#202c4e",
    success="#4cc585",
    success_soft="#15331f",
    warning="#e3b054",
    warning_soft="#3a2d12",
    danger="#ff8279",
    danger_hover="#ff9b93",
    on_danger="#2b0906",
    danger_soft="#351a1b",
    hover="#232934",
    pressed="#2d3441",
    selected="#263355",
    log="#101318",
    match="#7a5c00",
    ansi=(
        "#9ba6b7", "#ff8279", "#4cc585", "#e3b054", "#7d9fff", "#cf94e8", "#56c2d6", "#d5dbe6",
        "#7a8699", "#ffa49d", "#74dba3", "#f0c87c", "#a3bcff", "#e0b4f2", "#86d8e7", "#ffffff",
    ),
)  # fmt: skip


def tokens() -> Tokens:
    """The colours in force: told from the application's palette, so that there is one truth."""
    return DARK if QApplication.palette().color(QPalette.ColorRole.Window).lightness() < 128 else LIGHT


class ThemeChoice(enum.Enum):
    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


class Theme(QObject):
    """Applies one of the two looks and follows the desktop while the choice is SYSTEM."""

    changed = Signal()

    def __init__(self, app: QApplication, choice: ThemeChoice = ThemeChoice.SYSTEM) -> None:
        super().__init__(app)
        self._app = app
        self._choice = choice
        app.setStyle(QStyleFactory.create("Fusion"))
        app.styleHints().colorSchemeChanged.connect(self._follow)
        self._apply()

    @property
    def choice(self) -> ThemeChoice:
        return self._choice

    def choose(self, choice: ThemeChoice) -> None:
        self._choice = choice
        self._apply()

    def _follow(self) -> None:
        if self._choice is ThemeChoice.SYSTEM:
            self._apply()

    def _apply(self) -> None:
        scheme = self._app.styleHints().colorScheme()
        dark = self._choice is ThemeChoice.DARK or (self._choice is ThemeChoice.SYSTEM and scheme == Qt.ColorScheme.Dark)
        look = DARK if dark else LIGHT
        self._app.setPalette(palette(look))
        self._app.setStyleSheet(style_sheet(look, self._app.font().pointSizeF()))
        self.changed.emit()


def palette(look: Tokens) -> QPalette:
    role = QPalette.ColorRole
    colours = QPalette()
    for name, value in (
        (role.Window, look.window),
        (role.WindowText, look.text),
        (role.Base, look.surface),
        (role.AlternateBase, look.window),
        (role.Text, look.text),
        (role.Button, look.surface),
        (role.ButtonText, look.text),
        (role.BrightText, look.danger),
        (role.ToolTipBase, look.raised),
        (role.ToolTipText, look.text),
        (role.PlaceholderText, look.muted),
        (role.Highlight, look.accent),
        (role.HighlightedText, look.on_accent),
        (role.Link, look.accent),
        (role.LinkVisited, look.accent),
        (role.Accent, look.accent),
        (role.Light, look.raised),
        (role.Midlight, look.border),
        (role.Mid, look.strong_border),
        (role.Dark, look.strong_border),
    ):
        colours.setColor(name, QColor(value))
    for name in (role.WindowText, role.Text, role.ButtonText):
        colours.setColor(QPalette.ColorGroup.Disabled, name, QColor(look.strong_border if look.dark else "#a3adbc"))
    return colours


def monospace_font(scale: float = 1.0) -> QFont:
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    font.setStyleHint(QFont.StyleHint.Monospace)
    font.setPointSizeF(max(8.0, QApplication.font().pointSizeF() * scale))
    return font


def style_sheet(look: Tokens, base_pt: float) -> str:
    """Rules by role (a dynamic property), not by object name: names are for tests and stay free of looks."""
    title, heading, small = base_pt * 1.75, base_pt * 1.2, base_pt * 0.92
    disabled = look.strong_border if look.dark else "#a3adbc"
    check = (_RESOURCES / f"check-{'dark' if look.dark else 'light'}.svg").as_posix()
    return f"""
QToolTip {{ background: {look.raised}; color: {look.text}; border: 1px solid {look.strong_border}; padding: 4px 6px; }}
QLabel {{ background: transparent; }}
QLabel[role="title"] {{ font-size: {title:.1f}pt; font-weight: 600; }}
QLabel[role="heading"] {{ font-size: {heading:.1f}pt; font-weight: 600; }}
QLabel[role="section"] {{ font-size: {small:.1f}pt; font-weight: 600; color: {look.muted}; }}
QLabel[role="muted"] {{ color: {look.muted}; }}
QLabel[role="small"] {{ color: {look.muted}; font-size: {small:.1f}pt; }}
QLabel[role="strong"] {{ font-weight: 600; }}
QLabel[role="error"] {{ color: {look.danger}; }}

QFrame[role="card"] {{ background: {look.surface}; border: 1px solid {look.border}; border-radius: 12px; }}
QFrame[role="card-row"] {{ border: none; border-top: 1px solid {look.border}; border-radius: 0; background: transparent; }}
QFrame[role="sheet"] {{ background: {look.raised}; border: 1px solid {look.strong_border}; border-radius: 14px; }}
QFrame[role="well"] {{ background: {look.log}; border: 1px solid {look.border}; border-radius: 8px; }}
QFrame[role="command"] {{ background: {look.window}; border: 1px solid {look.border}; border-radius: 8px; }}
QFrame[role="danger-card"] {{ background: {look.danger_soft}; border: 1px solid {look.danger}; border-radius: 12px; }}
QFrame[role="sidebar"] {{ background: {look.sidebar}; border: none; border-right: 1px solid {look.border}; }}
QFrame[role="header"] {{ background: {look.window}; border: none; border-bottom: 1px solid {look.border}; }}
QFrame[role="toast"] {{ background: {look.raised}; border: 1px solid {look.strong_border}; border-radius: 10px; }}
QFrame[role="line"] {{ background: {look.border}; border: none; max-height: 1px; min-height: 1px; }}

QPushButton {{ background: {look.raised}; color: {look.text}; border: 1px solid {look.strong_border}; border-radius: 8px;
  padding: 6px 14px; min-height: 18px; }}
QPushButton:hover {{ background: {look.hover}; }}
QPushButton:pressed {{ background: {look.pressed}; }}
QPushButton:focus {{ border: 2px solid {look.accent}; padding: 5px 13px; }}
QPushButton:disabled {{ color: {disabled}; background: transparent; border-color: {look.border}; }}
QPushButton[kind="primary"] {{ background: {look.accent}; color: {look.on_accent}; border: 1px solid {look.accent};
  font-weight: 600; }}
QPushButton[kind="primary"]:hover {{ background: {look.accent_hover}; border-color: {look.accent_hover}; }}
QPushButton[kind="primary"]:focus {{ border: 2px solid {look.text}; }}
QPushButton[kind="primary"]:disabled {{ background: {look.pressed}; color: {look.muted}; border-color: {look.pressed}; }}
QPushButton[kind="danger"] {{ background: {look.danger}; color: {look.on_danger}; border: 1px solid {look.danger};
  font-weight: 600; }}
QPushButton[kind="danger"]:hover {{ background: {look.danger_hover}; border-color: {look.danger_hover}; }}
QPushButton[kind="danger"]:focus {{ border: 2px solid {look.text}; }}
QPushButton[kind="flat"] {{ background: transparent; border: 1px solid transparent; color: {look.accent}; }}
QPushButton[kind="flat"]:hover {{ background: {look.accent_soft}; }}
QPushButton[kind="flat"]:focus {{ border: 2px solid {look.accent}; }}
QPushButton[kind="nav"] {{ background: transparent; border: 1px solid transparent; text-align: left; padding: 7px 10px; }}
QPushButton[kind="nav"]:hover {{ background: {look.hover}; }}
QPushButton[kind="nav"]:checked {{ background: {look.selected}; font-weight: 600; }}
QPushButton[kind="nav"]:focus {{ border: 2px solid {look.accent}; padding: 6px 9px; }}
QPushButton::menu-indicator {{ image: none; width: 0; }}

QToolButton {{ background: transparent; border: 1px solid transparent; border-radius: 8px; padding: 5px; }}
QToolButton:hover {{ background: {look.hover}; }}
QToolButton:pressed {{ background: {look.pressed}; }}
QToolButton:checked {{ background: {look.accent_soft}; }}
QToolButton:focus {{ border: 2px solid {look.accent}; padding: 4px; }}
QToolButton[kind="small"] {{ padding: 2px; border-radius: 6px; }}
QToolButton[kind="small"]:focus {{ padding: 1px; }}
QToolButton::menu-indicator {{ image: none; width: 0; }}

QLineEdit {{ background: {look.surface}; border: 1px solid {look.strong_border}; border-radius: 8px; padding: 6px 10px;
  selection-background-color: {look.accent}; selection-color: {look.on_accent}; }}
QLineEdit:focus {{ border: 2px solid {look.accent}; padding: 5px 9px; }}
QLineEdit[wrong="true"] {{ border: 2px solid {look.danger}; padding: 5px 9px; }}
QLineEdit[role="filter"] {{ background: {look.surface}; border-color: {look.border}; }}
QPlainTextEdit {{ background: {look.log}; border: 1px solid {look.border}; border-radius: 8px; padding: 6px;
  selection-background-color: {look.accent}; selection-color: {look.on_accent}; }}
QPlainTextEdit:focus {{ border: 2px solid {look.accent}; padding: 5px; }}

QPlainTextEdit[wrong="true"] {{ border: 2px solid {look.danger}; padding: 5px; }}
QComboBox {{ background: {look.surface}; border: 1px solid {look.strong_border}; border-radius: 8px; padding: 6px 10px; }}
QComboBox:focus {{ border: 2px solid {look.accent}; padding: 5px 9px; }}
QComboBox:disabled {{ color: {disabled}; }}
QComboBox::drop-down {{ border: none; width: 22px; }}
QComboBox QAbstractItemView {{ background: {look.raised}; border: 1px solid {look.strong_border}; outline: none; padding: 4px;
  selection-background-color: {look.selected}; selection-color: {look.text}; }}

QCheckBox {{ spacing: 8px; background: transparent; }}
QCheckBox::indicator, QListView::indicator {{ width: 14px; height: 14px; border: 1px solid {look.muted}; border-radius: 4px;
  background: {look.surface}; }}
QCheckBox::indicator:checked, QListView::indicator:checked {{ background: {look.accent}; border-color: {look.accent};
  image: url("{check}"); }}
QCheckBox::indicator:focus {{ border: 2px solid {look.accent}; }}
QCheckBox::indicator:disabled {{ border-color: {look.border}; }}
QListView[role="well"] {{ background: {look.surface}; border: 1px solid {look.border}; border-radius: 8px; padding: 4px; }}
QListView[role="well"]::item {{ padding: 4px; }}
QListView {{ background: transparent; border: none; outline: none; }}
QTreeView {{ background: {look.surface}; border: 1px solid {look.border}; border-radius: 8px; outline: none; }}
QTreeView::item {{ padding: 3px 2px; }}
QTreeView::item:selected {{ background: {look.selected}; color: {look.text}; }}
QTreeView[role="table"] {{ background: transparent; border: none; border-radius: 0; }}
QTreeView[role="table"]::item {{ padding: 7px 6px; border-bottom: 1px solid {look.border}; }}
QTreeView[role="table"]::item:hover {{ background: {look.hover}; }}
QTreeView[role="table"]::item:selected {{ background: {look.selected}; }}
QTreeView[role="table"] QHeaderView::section {{ background: transparent; font-weight: 600; padding: 8px 9px; }}
QHeaderView::section {{ background: {look.window}; color: {look.muted}; border: none; border-bottom: 1px solid {look.border};
  padding: 6px 8px; }}
QScrollArea, QScrollArea > QWidget > QWidget {{ background: transparent; border: none; }}

QTabBar {{ background: transparent; qproperty-drawBase: 0; }}
QTabBar::tab {{ background: transparent; color: {look.muted}; padding: 8px 4px; margin-right: 18px; border: none;
  font-weight: 600; border-bottom: 2px solid transparent; }}
QTabBar::tab:hover {{ color: {look.text}; }}
QTabBar::tab:selected {{ color: {look.text}; border-bottom: 2px solid {look.accent}; }}
QTabBar::tab:focus {{ color: {look.accent}; }}

QMenu {{ background: {look.raised}; border: 1px solid {look.strong_border}; border-radius: 8px; padding: 5px; }}
QMenu::item {{ padding: 6px 24px 6px 12px; border-radius: 6px; }}
QMenu::item:selected {{ background: {look.selected}; color: {look.text}; }}
QMenu::item:disabled {{ color: {disabled}; }}
QMenu::separator {{ height: 1px; background: {look.border}; margin: 5px 8px; }}
QMenu::icon {{ padding-left: 8px; }}

QProgressBar {{ background: {look.pressed}; border: none; border-radius: 3px; max-height: 6px; min-height: 6px; }}
QProgressBar::chunk {{ background: {look.accent}; border-radius: 3px; }}
QSplitter::handle {{ background: transparent; }}

QScrollBar:vertical {{ background: transparent; width: 12px; margin: 2px; }}
QScrollBar:horizontal {{ background: transparent; height: 12px; margin: 2px; }}
QScrollBar::handle {{ background: {look.strong_border}; border-radius: 4px; }}
QScrollBar::handle:vertical {{ min-height: 28px; }}
QScrollBar::handle:horizontal {{ min-width: 28px; }}
QScrollBar::handle:hover {{ background: {look.muted}; }}
QAbstractScrollArea::corner {{ background: transparent; border: none; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
"""
