// Paper is white: a page is light while it is printed, whatever the theme. A style sheet cannot say this, as the theme's
// colours hang on an attribute.
(() => {
  const { dataset } = document.documentElement;
  let before;
  addEventListener("beforeprint", () => { [before, dataset.theme] = [dataset.theme, "light"]; });
  addEventListener("afterprint", () => { dataset.theme = before; });
})();
