"""What a model does and what its labels are worth: SHAP values, label errors."""
