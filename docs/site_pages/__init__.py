"""The generated part of the site: a page for each optimizer, formulas as MathML, and a check that all is local."""
